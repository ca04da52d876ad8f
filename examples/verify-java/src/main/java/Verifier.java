import com.nimbusds.jose.JOSEException;
import com.nimbusds.jose.JOSEObjectType;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.KeySourceException;
import com.nimbusds.jose.jwk.JWKMatcher;
import com.nimbusds.jose.jwk.JWKSelector;
import com.nimbusds.jose.jwk.source.JWKSource;
import com.nimbusds.jose.jwk.source.JWKSourceBuilder;
import com.nimbusds.jose.proc.BadJOSEException;
import com.nimbusds.jose.proc.DefaultJOSEObjectTypeVerifier;
import com.nimbusds.jose.proc.JWSVerificationKeySelector;
import com.nimbusds.jose.proc.SecurityContext;
import com.nimbusds.jose.util.DefaultResourceRetriever;
import com.nimbusds.jose.util.JSONObjectUtils;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.jwt.proc.DefaultJWTClaimsVerifier;
import com.nimbusds.jwt.proc.DefaultJWTProcessor;
import com.nimbusds.jwt.proc.ExpiredJWTException;
import java.io.IOException;
import java.net.URI;
import java.net.URL;
import java.text.ParseException;
import java.time.Duration;
import java.time.Instant;
import java.util.Set;

/** Verifies access tokens with the issuer's published keys. */
final class Verifier {
  /** EdDSA is not among them: Nimbus needs one more library for it. */
  private static final Set<JWSAlgorithm> ALGORITHMS = Set.of(JWSAlgorithm.ES256, JWSAlgorithm.RS256);
  private static final int MAX_TOKEN = 8 << 10;
  private static final Duration FUTURE = Duration.ofSeconds(30); // that iat may be ahead: clocks differ

  private final String issuer;
  private final String audience;
  private volatile JWKSource<SecurityContext> keys; // null until the issuer was found
  private volatile DefaultJWTProcessor<SecurityContext> processor;

  Verifier(String issuer, String audience) {
    URI uri = URI.create(issuer);
    boolean loopback = "http".equals(uri.getScheme()) && Set.of("localhost", "127.0.0.1", "[::1]").contains(String.valueOf(uri.getHost()));
    if (!"https".equals(uri.getScheme()) && !loopback) {
      throw new IllegalArgumentException("issuer " + issuer + " must be https, or http on a loopback address");
    }
    this.issuer = issuer;
    this.audience = audience;
  }

  /** Tells whether tokens can be checked. */
  boolean ready() {
    try {
      find();
      return !keys.get(new JWKSelector(new JWKMatcher.Builder().build()), null).isEmpty();
    } catch (IOException | ParseException | KeySourceException | RuntimeException e) {
      return false;
    }
  }

  /** Returns the claims of a valid access token. */
  JWTClaimsSet verify(String raw) throws Refusal {
    if (raw.length() > MAX_TOKEN) {
      throw Refusal.invalid(null);
    }
    try {
      find();
    } catch (IOException | ParseException e) {
      throw Refusal.unavailable(e);
    }
    try {
      SignedJWT token = SignedJWT.parse(raw);
      if (token.getHeader().getKeyID() == null) {
        throw Refusal.invalid(null); // a key is revoked by its kid
      }
      JWTClaimsSet claims = processor.process(token, null);
      if (claims.getIssueTime().toInstant().isAfter(Instant.now().plus(FUTURE)) || claims.getStringClaim("client_id") == null) {
        throw Refusal.invalid(null);
      }
      return claims;
    } catch (ExpiredJWTException e) {
      throw Refusal.expired(e);
    } catch (KeySourceException e) {
      throw Refusal.unavailable(e);
    } catch (ParseException | BadJOSEException | JOSEException e) {
      throw Refusal.invalid(e);
    }
  }

  /** Finds the issuer, which may be started later, by its metadata (RFC 8414). */
  private synchronized void find() throws IOException, ParseException {
    if (processor != null) {
      return;
    }
    URI uri = URI.create(issuer);
    // The well-known part goes between host and path (RFC 8414, section 3.1).
    String path = uri.getPath().replaceAll("/$", "");
    URL address = new URL(uri.getScheme() + "://" + uri.getAuthority() + "/.well-known/oauth-authorization-server" + path);
    DefaultResourceRetriever http = new DefaultResourceRetriever(2_000, 5_000, 1 << 20);
    var metadata = JSONObjectUtils.parse(http.retrieveResource(address).getContent());
    if (!issuer.equals(metadata.get("issuer"))) {
      throw new IOException("the metadata is that of " + metadata.get("issuer"));
    }
    keys = JWKSourceBuilder.<SecurityContext>create(new URL(JSONObjectUtils.getString(metadata, "jwks_uri")), http)
        .retrying(true)
        .rateLimited(30_000) // between fetches for a kid that is not known
        .outageTolerant(Duration.ofHours(24).toMillis()) // the last good keys stay while the issuer is down
        .build();
    processor = processor();
  }

  private DefaultJWTProcessor<SecurityContext> processor() {
    // Not an ID token or whatever else the issuer signs (RFC 9068, section 2.1).
    var accessToken = new DefaultJOSEObjectTypeVerifier<>(new JOSEObjectType("at+jwt"));
    var claims = new DefaultJWTClaimsVerifier<>(
        audience,
        new JWTClaimsSet.Builder().issuer(issuer).build(),
        Set.of("sub", "exp", "iat", "jti", "client_id"));
    claims.setMaxClockSkew(0);
    var p = new DefaultJWTProcessor<>();
    p.setJWSTypeVerifier(accessToken);
    p.setJWSKeySelector(new JWSVerificationKeySelector<>(ALGORITHMS, keys));
    p.setJWTClaimsSetVerifier(claims);
    return p;
  }
}
