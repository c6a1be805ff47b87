// SPDX-License-Identifier: Apache-2.0
// A real OpenID Connect provider (npm's oidc-provider) on loopback, with keys of this run: node oidc_provider.mjs MODULES PORT REDIRECT...
import {generateKeyPairSync} from "node:crypto";
import {createRequire} from "node:module";
import {pathToFileURL} from "node:url";

const [modules, port, ...redirects] = process.argv.slice(2);
const {default: Provider} = await import(pathToFileURL(createRequire(modules + "/").resolve("oidc-provider")).href);
const jwk = (kind, options, kid) => ({...generateKeyPairSync(kind, options).privateKey.export({format: "jwk"}), use: "sig", kid: kid + process.pid});
const client = (id, alg) => ({client_id: id, client_secret: id + "-secret & more", redirect_uris: redirects, id_token_signed_response_alg: alg});

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client("rs", "RS256"), client("es", "ES256")],
  jwks: {keys: [jwk("rsa", {modulusLength: 2048}, "r"), jwk("ec", {namedCurve: "P-256"}, "e")]},
  claims: {openid: ["sub"], email: ["email", "email_verified"]},
  conformIdTokenClaims: false, // as the large providers do: the e-mail stands in the ID token
  pkce: {required: () => true},
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({sub, ...(sub !== "mailless" && {email: `${sub}@provider.example`, email_verified: sub !== "unverified"})}),
  }),
});
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
