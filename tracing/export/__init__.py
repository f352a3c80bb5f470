"""Traces on their way out: from the store's spool to OTLP receivers, Langfuse and processors."""
