"""The app's screens: they observe, and ask ``runners.lifecycle`` to act; nothing slow runs here."""
