"""The broker: Celery over Valkey or Redis."""
