/** A request that may not pass, and how it is answered (RFC 6750, section 3). The message is for the client. */
final class Refusal extends Exception {
  final int status;
  final String code;

  private Refusal(int status, String code, String description, Throwable cause) {
    super(description, cause);
    this.status = status;
    this.code = code;
  }

  static Refusal noToken() {
    return new Refusal(401, "unauthorized", "An access token is required", null);
  }

  static Refusal malformed() {
    return new Refusal(400, "invalid_request", "One bearer token must be in one Authorization header", null);
  }

  static Refusal expired(Throwable cause) {
    return new Refusal(401, "invalid_token", "The access token expired", cause);
  }

  /** Which check failed is for the log: a client learns only that a token has expired. */
  static Refusal invalid(Throwable cause) {
    return new Refusal(401, "invalid_token", "The access token is not valid", cause);
  }

  /** Says nothing about the token: the keys could not be had. */
  static Refusal unavailable(Throwable cause) {
    return new Refusal(503, "temporarily_unavailable", "The access token cannot be checked now", cause);
  }

  /** Returns the value of WWW-Authenticate, null for none. */
  String challenge() {
    if (status >= 500) {
      return null;
    }
    // Who did not know that a token is needed did nothing wrong, and is not given an error code (RFC 6750, section 3.1).
    return code.equals("unauthorized") ? "Bearer" : "Bearer error=\"" + code + "\", error_description=\"" + getMessage() + "\"";
  }
}
