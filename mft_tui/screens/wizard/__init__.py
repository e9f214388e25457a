"""The wizard, from data to a submission: a page a step, one draft, the same jobs as the commands."""

from mft_tui.screens.wizard.screen import WizardScreen

__all__ = ["WizardScreen"]
