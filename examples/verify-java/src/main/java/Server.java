import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Executors;

import com.nimbusds.jose.util.JSONObjectUtils;

/**
 * An API that accepts Handstamp's access tokens, which it checks offline with the issuer's published keys.
 *
 * <pre>java -jar target/verify-java.jar --issuer http://127.0.0.1:8080 --audience http://127.0.0.1:8080 --listen 127.0.0.1:9093</pre>
 *
 * GET /hello wants a valid token and answers its subject. GET /readyz tells whether tokens can be checked.
 *
 * <p>It does not follow the revocation feed, so a revoked token is accepted until it expires. verify-node and verify-python show
 * how to follow it, in about two hundred lines.
 */
public final class Server {
  private final Verifier verifier;

  private Server(Verifier verifier) {
    this.verifier = verifier;
  }

  public static void main(String[] args) throws Exception {
    Map<String, String> flags = new HashMap<>();
    for (int i = 0; i + 1 < args.length; i += 2) {
      flags.put(args[i], args[i + 1]);
    }
    String issuer = flags.getOrDefault("--issuer", "http://127.0.0.1:8080");
    String audience = flags.getOrDefault("--audience", issuer); // name of this API, as in the aud of its tokens
    String listen = flags.getOrDefault("--listen", "127.0.0.1:9093");
    int colon = listen.lastIndexOf(':');

    Server api = new Server(new Verifier(issuer, audience));
    HttpServer server = HttpServer.create(
        new InetSocketAddress(listen.substring(0, colon), Integer.parseInt(listen.substring(colon + 1))), 0);
    server.setExecutor(Executors.newFixedThreadPool(8));
    server.createContext("/", api::handle);
    server.start();
    System.out.println("listening on http://" + listen.substring(0, colon) + ":" + server.getAddress().getPort());
  }

  private void handle(HttpExchange exchange) throws IOException {
    try {
      switch (exchange.getRequestMethod() + " " + exchange.getRequestURI().getPath()) {
        case "GET /hello" -> answer(exchange, 200, hello(exchange));
        case "GET /readyz" -> answer(exchange, verifier.ready() ? 200 : 503, Map.of());
        default -> answer(exchange, 404, Map.of("error", "not_found"));
      }
    } catch (Refusal refusal) {
      if (refusal.challenge() != null) {
        exchange.getResponseHeaders().set("WWW-Authenticate", refusal.challenge());
      }
      if (refusal.status == 503) {
        exchange.getResponseHeaders().set("Retry-After", "1");
      }
      answer(exchange, refusal.status, Map.of("error", refusal.code, "error_description", refusal.getMessage()));
    } finally {
      exchange.close();
    }
  }

  private Map<String, Object> hello(HttpExchange exchange) throws Refusal {
    var claims = verifier.verify(Bearer.token(exchange));
    Map<String, Object> body = new LinkedHashMap<>();
    body.put("subject", claims.getSubject());
    body.put("scope", claims.getClaim("scope"));
    body.put("roles", claims.getClaim("roles"));
    return body;
  }

  private static void answer(HttpExchange exchange, int status, Map<String, Object> body) throws IOException {
    byte[] content = (JSONObjectUtils.toJSONString(body) + "\n").getBytes(StandardCharsets.UTF_8);
    exchange.getResponseHeaders().set("Content-Type", "application/json");
    exchange.getResponseHeaders().set("Cache-Control", "no-store");
    exchange.sendResponseHeaders(status, content.length);
    exchange.getResponseBody().write(content);
  }
}
