"""Reports: a folder of static pages with the results of a run, and its crops to look at."""
