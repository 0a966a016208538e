-- needs: 1
-- The triggers find the service's tables and functions whatever the search_path of who changes a row: an operator's may name another
-- schema, and another program's tables of the same names would be changed then.
DO $$
DECLARE
    trigger text;
BEGIN
    FOREACH trigger IN ARRAY ARRAY['users_updated_at', 'users_disabled', 'audit_log_keeps_what_it_has', 'audit_log_forgets_by_age'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path = %I, pg_temp', trigger, current_schema());
    END LOOP;
END;
$$;
