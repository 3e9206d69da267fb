-- Roles and databases of the services, created when the server starts on an empty volume. Passwords are read from the
-- environment, so none of them is in a file. MLflow has databases of its own: its tables, and those of its users.
\getenv sparsesearch_password SPARSESEARCH_DB_PASSWORD
\getenv mlflow_password MLFLOW_DB_PASSWORD

CREATE ROLE sparsesearch LOGIN PASSWORD :'sparsesearch_password';
CREATE DATABASE sparsesearch OWNER sparsesearch;
REVOKE ALL ON DATABASE sparsesearch FROM PUBLIC;

CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE mlflow_auth OWNER mlflow;
REVOKE ALL ON DATABASE mlflow FROM PUBLIC;
REVOKE ALL ON DATABASE mlflow_auth FROM PUBLIC;
