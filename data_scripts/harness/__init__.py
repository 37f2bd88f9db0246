"""What every builder shares: writing a folder that the Hub and `datasets.load_dataset` understand."""
