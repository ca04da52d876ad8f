-- +goose Up

-- Ends live sessions of a user until a new one and the given number of others are left. First go those of the same browser login at
-- the same client, which a page that was reloaded has left behind; then those that were used least recently. See the function of
-- the same name with fewer parameters, which the version before calls.
-- +goose StatementBegin
CREATE FUNCTION end_surplus_sessions(of_user text, new_session uuid, now timestamptz, others bigint, reason text, of_client text,
    of_browser bytea)
    RETURNS TABLE (ended uuid, begun timestamptz) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RETURN QUERY
        UPDATE sessions s SET revoked_at = now, revoke_reason = reason
        WHERE s.id IN (
            SELECT o.id FROM sessions o
            WHERE o.user_id = of_user AND o.id <> new_session AND o.revoked_at IS NULL AND o.idle_expires_at > now AND o.expires_at > now
            ORDER BY COALESCE(o.browser_session = of_browser AND o.client_id = of_client, false), o.rotated_at DESC, o.id DESC
            OFFSET others
        ) AND s.revoked_at IS NULL
        RETURNING s.id, s.created_at;
END
$$;
-- +goose StatementEnd

-- +goose Down

DROP FUNCTION end_surplus_sessions(text, uuid, timestamptz, bigint, text, text, bytea);
