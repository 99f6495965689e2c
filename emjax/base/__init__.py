"""The vocabulary that every other room uses: records, statuses, protocols, numerics, coordinates."""
