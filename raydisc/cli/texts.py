"""The help texts of ``raydisc``: what each command does, with examples."""

ABOUT = """\
Find the teacher assistant that gives the best student of a fine-tuned transformer at the size you can afford,
and compare what the search cost with the alternatives (kd, maxidisc, minidisc), as Ray Tune trials."""

START = """\
start here:
  raydisc run experiments/quickstart.yaml        run a whole search without any download
  raydisc compare quickstart                     print what each schedule reached and what it cost
  raydisc show quickstart                        print its stages, and its candidates ranked by λ-tradeoff

on a cluster:
  raydisc submit FILE --address http://HEAD:8265 --storage /mnt/nfs/runs --wait

exit codes: 0 done, 1 failed, 2 bad input, 3 stopped by its budget or a signal, or with its cluster
(continue with `raydisc resume RUN`)"""

RUN = """\
Fine-tune the teacher where the file says so, run every schedule as Ray Tune trials and print the comparison.
Results are written to STORAGE/NAME; progress goes to stderr. A stage that any run in the storage has computed
is not computed again, and the same experiment under the same name continues where it stopped."""

RUN_EXAMPLES = """\
examples:
  raydisc run experiments/quickstart.yaml
  raydisc run experiments/sst2.yaml --set task.glue=sst2
  raydisc run experiments/sst2.yaml --name sst2-5 --set student.scale=0.05 --set 'seeds=[0]'
  raydisc run experiments/sst2.yaml --name sst2-2m --set student.parameters=2e6
  raydisc run experiments/budget_curves/reviews_*.yaml"""

VALIDATE = """\
Check an experiment file, its data and its teacher, and say in one sentence what is wrong, before any
training. Prints the resolved experiment, with every default filled in, as YAML."""

VALIDATE_EXAMPLES = """\
examples:
  raydisc validate experiments/sst2.yaml
  raydisc validate experiments/sst2.yaml --set task.glue=sst2 > resolved.yaml"""

RECOMMEND = """\
Spend a budget on the best student that it buys, in place of the schedules of an experiment file. Several
ways to train the student share the budget; those that fall behind are dropped, and one student is finished.
At the end a page says which, why, what was spent on what, and what more would buy. `raydisc resume` continues
an interrupted run."""

RECOMMEND_EXAMPLES = """\
examples:
  raydisc recommend experiments/quickstart.yaml --flops 5e12
  raydisc recommend experiments/sst2.yaml --hours 8
  raydisc recommend experiments/sst2.yaml --money 20 --price 2.5"""

PLAN = """\
Print what an experiment will cost before anything is run: the candidates, every stage with its FLOPs, the
bytes it keeps and the memory it needs, the cost of MiniDisc beside that of MaxiDisc, and whether the model
fits the devices. Nothing is trained: the file, the data and the teacher's configuration are read, no weights."""

PLAN_EXAMPLES = """\
examples:
  raydisc plan experiments/quickstart.yaml
  raydisc plan experiments/sst2.yaml --gpus 8 --gpu-memory 80GiB
  raydisc plan experiments/sst2.yaml --address auto            for the cluster on this machine
  raydisc plan experiments/quickstart.yaml --probe --price 2.5
  raydisc plan experiments/quickstart.yaml --json | jq '.schedules[0].flops'"""

SHOW = "Print what a run has done: its stages with their costs, and its candidates ranked by λ-tradeoff."

SHOW_EXAMPLES = """\
examples:
  raydisc show quickstart
  raydisc show quickstart --json | jq '.candidates[0]'"""

COMPARE = """\
Print one row for each schedule, path and seed: the student's validation and test metric, the cost of the
search, that cost relative to the oracle path's, and the regret. The controls, such as
kd_equal_compute, are listed beside the schedules: without them no verdict is possible."""

COMPARE_EXAMPLES = """\
examples:
  raydisc compare quickstart
  raydisc compare sst2 mrpc --csv comparison.csv
  raydisc compare sst2 --markdown
  raydisc compare quickstart --json | jq '.[] | select(.selected)'"""

RESUME = """\
Continue a run that was interrupted, has spent its budget or had failed trials. Finished stages are not run
again; an interrupted stage continues from its last checkpoint."""

RESUME_EXAMPLES = """\
examples:
  raydisc resume quickstart
  raydisc resume sst2 --storage /mnt/nfs/runs
  raydisc resume sst2 --set budget.device_hours=200"""

LS = "List the runs in a storage with their task, state and number of finished trials, or the jobs of a cluster."

LS_EXAMPLES = """\
examples:
  raydisc ls
  raydisc ls --storage /mnt/nfs/runs
  raydisc ls --address http://HEAD:8265
  raydisc ls --json | jq '.[].name'"""

SUBMIT = """\
Send an experiment to a Ray cluster, which runs it as `raydisc run` does. The job consists of the code of this
installation, the resolved file and the local files that it names (at most 64 MiB), and nothing else. A stage
that any run in the storage has computed is not computed again. For a cluster that requires a token, set
RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE (or RAY_AUTH_TOKEN)."""

SUBMIT_EXAMPLES = """\
examples:
  raydisc submit experiments/sst2.yaml --address http://HEAD:8265 --storage /mnt/nfs/runs
  raydisc submit experiments/sst2.yaml --storage s3://BUCKET/runs --wait > comparison.txt
  raydisc submit experiments/quickstart.yaml --address auto --pip none --json | jq -r .job"""

STATUS = "Print the run, state, exit code and times of a job of a cluster; without a job, list all jobs of raydisc."

STATUS_EXAMPLES = """\
examples:
  raydisc status
  raydisc status sst2-1f0c53a7 --address http://HEAD:8265
  raydisc status sst2-1f0c53a7 --json | jq .exit_code"""

LOGS = "Print the output of a job: its progress, and the comparison once it has ended."

LOGS_EXAMPLES = """\
examples:
  raydisc logs sst2-1f0c53a7
  raydisc logs sst2-1f0c53a7 --follow --address http://HEAD:8265"""

STOP = """\
Interrupt a job. Finished stages are kept, and so is the last checkpoint of a stage that was interrupted:
submitting the same file again continues from there."""

STOP_EXAMPLES = """\
examples:
  raydisc stop sst2-1f0c53a7
  raydisc stop sst2-1f0c53a7 --address http://HEAD:8265"""

GC = """\
List files that no run needs any more: artifacts that only removed runs used (remove a run by removing its
folder), remains of stages that were killed, and Tune's own files. They are listed by default and removed with
--delete. Artifacts are kept while a run is in progress; do not use --delete while a run is being started."""

GC_EXAMPLES = """\
examples:
  raydisc gc
  raydisc gc --outputs --delete
  raydisc gc --json | jq .bytes"""

PREDICT = """\
Label a file (Parquet, CSV or JSONL with the task's text columns) with a finished student. Writes one row for
each row of the file, in the same order, or one row for each word if the student tags words."""

PREDICT_EXAMPLES = """\
examples:
  raydisc predict STUDENT new.csv --output labels.csv
  raydisc predict STUDENT test.parquet --output SST-2.tsv --glue sst2      in GLUE's submission format"""

SCHEMA = """\
Print the JSON Schema of experiment files. With it an editor completes keys, shows what each setting means and
underlines mistakes; the first line of the file names the schema:
  # yaml-language-server: $schema=raydisc.schema.json"""

SCHEMA_EXAMPLES = """\
examples:
  raydisc schema > raydisc.schema.json"""

COMPLETION = """\
Print a script with which a shell completes commands, options and file names of raydisc when Tab is pressed.
Load it in the shell's start-up file."""

COMPLETION_EXAMPLES = """\
examples:
  raydisc completion bash > ~/.local/share/bash-completion/completions/raydisc
  raydisc completion zsh > ~/.zfunc/_raydisc      with fpath+=~/.zfunc before compinit"""
