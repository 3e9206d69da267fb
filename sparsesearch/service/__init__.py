"""The service: a REST API and pages over the study database, controllers that run submitted studies, and a client."""
