"""Reads a corpus of tokens and prints, for each, who accepts it: PyJWT, as its documentation recommends to use it, and this example."""

import json
import sys

import jwt

from verifier import InvalidToken, Verifier

corpus = json.load(sys.stdin)
jwks = jwt.PyJWKSet.from_dict(corpus["jwks"])


class Keys:
    def key(self, kid: str) -> jwt.PyJWK:
        try:
            return jwks[kid]
        except KeyError as error:
            raise InvalidToken("unknown key") from error


def library(token: str) -> bool:
    try:
        header = jwt.get_unverified_header(token)
        if header.get("typ") != "at+jwt":
            return False
        jwt.decode(
            token,
            jwks[header["kid"]],
            algorithms=["ES256", "EdDSA", "RS256"],
            issuer=corpus["issuer"],
            audience=corpus["audience"],
            options={"require": ["iss", "aud", "exp", "iat", "sub", "jti", "client_id"]},
        )
    except Exception:  # whatever it is, the token is not accepted
        return False
    return True


def example(token: str) -> bool:
    try:
        verifier.authenticate(token)
    except InvalidToken:  # and nothing else: a fault of a token must be known as one
        return False
    return True


verifier = Verifier(corpus["issuer"], corpus["audience"], keys=Keys())
print(json.dumps([{"library": library(t["token"]), "example": example(t["token"])} for t in corpus["tokens"]]))
