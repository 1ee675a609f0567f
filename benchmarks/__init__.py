"""Speed and calibration, measured rather than promised; each file also runs on its own."""
