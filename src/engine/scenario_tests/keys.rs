//! Idempotency keys: a retry gets the order of its key.

stories! {

a_retry_gets_its_order_as_it_is_now: "
    drop stock=2 hold=10s
    at 0s   alice reserves 1 with k1            -> reserved, available 1 held 1 sold 0                    | started reserved
    at 1s   alice reserves 1 with k1            -> reserved again
    at 2s   alice pays k1 as p1                 -> confirmed, available 1 held 0 sold 1                   | confirmed
    at 3s   alice reserves 1 with k1            -> confirmed again
    at 4s   alice refunds k1                    -> confirmed owed requested, available 2 held 0 sold 0    | refund_due
    at 5s   alice reserves 1 with k1            -> confirmed owed requested again
    at 6s   alice settles k1                    -> refunded                                               | refunded
    at 7s   alice reserves 1 with k1            -> refunded again
    at 8s   bob reserves 1 with k1              -> reserved, available 1 held 1 sold 0                    | reserved
    at 18s  bob reserves 1 with k1              -> released expired again, available 2 held 0 sold 0      | released
    at 19s  drop ends                           -> done ended, settled                                    | ended
    at 20s  bob reserves 1 with k1              -> released expired again, settled
"

a_key_stands_for_one_request: "
    drop stock=9
    at 0s  alice reserves 1 with k1             -> reserved, available 8 held 1 sold 0                    | started reserved
    at 1s  alice reserves 2 with k1             -> no: KeyReused
    at 1s  alice reserves 1 with k1 by card     -> no: KeyReused
    # Even where the request could never be right.
    at 1s  alice reserves 0 with k1             -> no: KeyReused
    at 1s  alice reserves 1 of XL with k1       -> no: KeyReused
    at 2s  alice reserves 1 with k1             -> reserved again
"

a_key_belongs_to_its_buyer: "
    drop stock=9
    at 0s  alice reserves 1 with k1             -> reserved, available 8 held 1 sold 0                    | started reserved
    at 1s  bob reserves 2 with k1               -> reserved, available 6 held 3 sold 0                    | reserved
    at 2s  alice reserves 1 with k1             -> reserved again
    at 2s  bob reserves 1 with k1               -> no: KeyReused
    at 3s  bob lists                            -> orders k1
"

a_refusal_leaves_its_key_free: "
    drop stock=1 limit=2
    at 0s  alice reserves 1 with k1             -> reserved, available 0 held 1 sold 0                    | started reserved sold_out
    at 1s  bob reserves 1 with k1               -> refused sold_out
    at 1s  bob reserves 2 with k1               -> refused sold_out
    at 2s  drop restocks 5                      -> done live, available 5 held 1 sold 0                   | restocked back_in_stock
    at 3s  bob reserves 1 with k1               -> reserved, available 4 held 2 sold 0                    | reserved
    at 4s  bob reserves 1 with k1               -> reserved again
    at 5s  bob reserves 2 with k3               -> refused limit_exceeded
    at 6s  bob cancels k1                       -> released cancelled, available 5 held 1 sold 0          | released
    at 7s  bob reserves 2 with k3               -> reserved, available 3 held 3 sold 0                    | reserved
    at 8s  drop ends                            -> done ended                                             | ended
    # A key that made an order is never refused.
    at 9s  bob reserves 2 with k3               -> reserved again
    at 9s  bob reserves 1 with k1               -> released cancelled again
    at 9s  bob reserves 1 with k4               -> refused drop_ended
"

too_few_units_are_a_refusal_of_their_own: "
    drop stock=3
    at 0s  alice reserves 2 with k1             -> reserved, available 1 held 2 sold 0                    | started reserved
    at 1s  bob reserves 2 with k1               -> refused not_enough_stock 1
    at 2s  bob reserves 1 with k2               -> reserved, available 0 held 3 sold 0                    | reserved sold_out
    at 3s  carol reserves 2 with k1             -> refused sold_out
    at 4s  alice cancels k1                     -> released cancelled, available 2 held 1 sold 0          | released back_in_stock
    at 5s  dave reserves 3 with k1              -> refused not_enough_stock 2
    at 6s  bob reserves 2 with k1               -> reserved, available 0 held 3 sold 0                    | reserved sold_out
"

nothing_is_remembered_of_what_was_not_decided: "
    drop stock=5
    at 0s  alice finds k1                       -> no: UnknownOrder                                       | started
    at 0s  alice begins k1 by card              -> no: UnknownOrder
    at 0s  alice pays k1 as p1                  -> no: UnknownOrder
    at 0s  alice fails k1                       -> no: UnknownOrder
    at 0s  alice cancels k1                     -> no: UnknownOrder
    at 0s  alice refunds k1                     -> no: UnknownOrder
    at 0s  alice settles k1                     -> no: UnknownOrder
    at 0s  alice lists                          -> no orders
    at 1s  alice reserves 1 with k1             -> reserved, available 4 held 1 sold 0                    | reserved
    at 1s  alice finds k1                       -> reserved
"

}
