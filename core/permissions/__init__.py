"""Who may publish and subscribe where: rules, sets of them as the core reads them, and verdicts that are remembered."""
