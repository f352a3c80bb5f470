"""What the command line does with stores: functions without a screen, which it prints."""
