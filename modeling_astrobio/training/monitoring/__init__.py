"""What a run shows of itself while it goes on: speed, memory, alerts, logs, and a report at its end."""
