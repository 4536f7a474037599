"""What leaders, researchers and annotators' leads look at: pages that read the record, and nothing else."""
