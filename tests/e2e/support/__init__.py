"""Helpers of the end-to-end suite: processes, certificates, daemons, nginx and raw byte streams."""
