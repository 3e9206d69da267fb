"""Where running studies are shown to people. MLflow and plotly are imported here and nowhere else, when used."""
