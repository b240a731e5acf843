"""The nightly job as plain stages: plan, extract, publish, report."""
