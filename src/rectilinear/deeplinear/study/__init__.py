"""The depth study: its design, measurement, workers, result, figures and page."""
