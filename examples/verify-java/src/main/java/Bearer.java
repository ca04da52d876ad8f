import com.sun.net.httpserver.HttpExchange;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Where a bearer token is found in a request (RFC 6750). */
final class Bearer {
  private static final Pattern SCHEME = Pattern.compile("bearer(?![^ \\t,])", Pattern.CASE_INSENSITIVE);
  private static final Pattern CREDENTIAL = Pattern.compile("bearer +([A-Za-z0-9\\-._~+/]+=*)", Pattern.CASE_INSENSITIVE);
  private static final Pattern QUERY = Pattern.compile("(^|&)access_token=");

  private Bearer() {}

  /**
   * Returns the token in the Authorization header. It is never taken from the query, where logs and histories keep it, nor from
   * the body (RFC 9700, section 4.3.2).
   */
  static String token(HttpExchange exchange) throws Refusal {
    List<String> headers = exchange.getRequestHeaders().getOrDefault("Authorization", List.of());
    if (headers.size() > 1) {
      throw Refusal.malformed();
    }
    if (headers.isEmpty() || !SCHEME.matcher(headers.get(0)).lookingAt()) {
      throw Refusal.noToken();
    }
    Matcher credential = CREDENTIAL.matcher(headers.get(0));
    String query = exchange.getRequestURI().getRawQuery();
    if (!credential.matches() || query != null && QUERY.matcher(query).find()) {
      throw Refusal.malformed();
    }
    return credential.group(1);
  }
}
