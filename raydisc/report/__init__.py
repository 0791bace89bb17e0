"""The ledger of runs, and how it is shown: comparison, figures, report, live progress.

Everything here reads only the ledger and knows nothing of Ray.
"""
