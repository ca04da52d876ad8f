#!/usr/bin/env bash
# Runs once, when the database of compose.yaml is new: one role that owns the schema and migrates it, and one for the service, which
# reads and writes rows and can do nothing else.
set -euo pipefail

psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
	--set owner_password="$(</run/secrets/owner_password)" --set service_password="$(</run/secrets/service_password)" <<-'EOF'
	CREATE ROLE handstamp_owner LOGIN PASSWORD :'owner_password';
	CREATE ROLE handstamp_service LOGIN PASSWORD :'service_password';
	ALTER SCHEMA public OWNER TO handstamp_owner;
	ALTER DEFAULT PRIVILEGES FOR ROLE handstamp_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO handstamp_service;
	ALTER DEFAULT PRIVILEGES FOR ROLE handstamp_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO handstamp_service;
EOF
