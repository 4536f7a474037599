"""Statistics on plain arrays. Every public function returns an `Estimate` or names why it cannot."""
