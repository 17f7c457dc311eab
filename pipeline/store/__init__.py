"""The artifact store: units, receipts, claims, artifacts, records of runs."""
