"""The half of running an experiment that needs no Ray: jobs, folders, records, budgets."""
