"""What a run leaves behind and how it is shown: ledger, comparison, figures, report, live progress.

Everything here reads only the ledger and knows nothing of Ray.
"""
