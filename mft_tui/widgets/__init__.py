"""The app's widgets, and beside them the models they show, which know no pixel."""
