"""Health checks: what to run and when (``policy``), one run (``probe``), and the task beside each container (``monitor``)."""
