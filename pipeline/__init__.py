"""What the stages share: settings, identity, store, runner, models, datasets, methods."""
