// Signs and verifies webhooks with Stripe's own library: `sign <secret> <seconds>` prints the header of the payload on
// standard input; `verify <secret> <header>` exits 0 if the library takes the payload with that header.
import Stripe from "stripe";
import { readFileSync } from "node:fs";

const [, , task, secret, argument] = process.argv;
const payload = readFileSync(0, "utf8");
const stripe = new Stripe("sk_test_unused");
if (task === "sign") {
  const timestamp = Number(argument);
  process.stdout.write(stripe.webhooks.generateTestHeaderString({ payload, secret, timestamp }));
} else {
  const event = stripe.webhooks.constructEvent(payload, argument, secret);
  process.stdout.write(event.id);
}
