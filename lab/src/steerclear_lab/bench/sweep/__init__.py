"""The guard under a sweep of request settings, judged by what no filter uses."""
