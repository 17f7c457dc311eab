"""Questions to a store: status, why, verify, gc."""
