"""The record, the statistics and the worlds that every stage shares."""
