"""The wizard, from data to a submission: a page a step, one draft, the commands' jobs."""

from mft_tui.screens.wizard.screen import WizardScreen

__all__ = ["WizardScreen"]
