//! Payments: late, declined, repeated, of zero, and refunded.

stories! {

a_late_payment_takes_free_units: "
    drop stock=2 hold=10s
    at 0s   alice reserves 1 with k1 by card    -> reserved paying card, available 1 held 1 sold 0        | started reserved
    at 10s  drop ticks                          -> done live, available 2 held 0 sold 0                   | released
    at 11s  alice finds k1                      -> released expired paying card
    at 12s  alice pays k1 as p1                 -> confirmed, available 1 held 0 sold 1, owes             | retaken
    at 13s  alice pays k1 as p1                 -> confirmed
    at 14s  alice refunds k1                    -> confirmed owed requested, available 2 held 0 sold 0, owes p1 | refund_due
"

an_authorized_payment_is_captured_after_the_order_is_confirmed: "
    drop stock=2
    at 0s   alice reserves 1 with k1            -> reserved, available 1 held 1 sold 0                    | started reserved
    at 1s   alice begins k1 by pm of stripe     -> reserved paying pm                                     | payment_started
    at 2s   alice authorizes k1 as p1           -> confirmed to capture, available 1 held 0 sold 1        | confirmed
    at 3s   captures due                        -> orders k1
    at 4s   drop ends                           -> done ended                                             | ended
    at 5s   alice is captured k1                -> confirmed, settled                                     | payment_captured
    at 6s   alice is captured k1                -> confirmed, settled
    at 7s   alice fails to capture k1           -> confirmed, settled
"

a_hold_lasts_longer_once_while_its_buyer_has_to_act: "
    drop stock=1 hold=60s
    at 0s   alice reserves 1 with k1            -> reserved, available 0 held 1 sold 0                    | started reserved sold_out
    at 10s  alice begins k1 by pm of stripe     -> reserved paying pm                                     | payment_started
    at 20s  alice must act on k1 as p1          -> reserved paying pm, due 320s                           | payment_waits hold_extended
    at 30s  alice must act on k1 as p1          -> reserved paying pm, due 320s
    at 61s  bob reserves 1 with k1              -> refused sold_out
    at 319s drop ticks                          -> done sold_out
    at 320s drop ticks                          -> done live, available 1 held 0 sold 0                   | released back_in_stock
    at 321s alice authorizes k1 as p1           -> confirmed to capture, available 0 held 0 sold 1        | retaken sold_out
"

a_declined_card_may_be_followed_by_another: "
    drop stock=1
    at 0s   alice reserves 1 with k1            -> reserved, available 0 held 1 sold 0                    | started reserved sold_out
    at 1s   alice begins k1 by pm of stripe     -> reserved paying pm                                     | payment_started
    at 2s   alice is declined k1                -> reserved                                               | payment_ended
    at 3s   alice begins k1 by pm2 of stripe    -> reserved paying pm2                                    | payment_started
    at 4s   alice authorizes k1 as p2           -> confirmed to capture, available 0 held 0 sold 1        | confirmed
    at 5s   alice fails to capture k1           -> confirmed owed capture_failed, available 1 held 0 sold 0, owes p2 | refund_due back_in_stock
    at 6s   alice is captured k1                -> confirmed owed capture_failed, owes p2
    at 7s   alice settles k1                    -> refunded                                               | refunded
"

a_late_payment_takes_the_last_unit: "
    drop stock=2 hold=10s low=1
    at 0s   alice reserves 2 with k1 by card    -> reserved paying card, available 0 held 2 sold 0        | started reserved stock_low sold_out
    at 10s  alice pays k1 as p1                 -> confirmed, available 0 held 0 sold 2                   | released back_in_stock retaken stock_low sold_out
"

a_late_payment_without_stock_goes_back: "
    drop stock=1 hold=10s
    at 0s   alice reserves 1 with k1 by card    -> reserved paying card, available 0 held 1 sold 0        | started reserved sold_out
    at 10s  bob reserves 1 with k1              -> reserved, available 0 held 1 sold 0       | released back_in_stock reserved sold_out
    at 11s  alice pays k1 as p1                 -> released expired owed late_payment, owes p1            | refund_due
    at 12s  alice pays k1 as p1                 -> released expired owed late_payment, owes p1
    at 13s  bob pays k1 as p2                   -> confirmed, available 0 held 0 sold 1                   | confirmed
    at 14s  drop ends                           -> done ended                                             | ended
    at 15s  alice settles k1                    -> released expired paid back, owes, settled              | refunded
    at 16s  alice settles k1                    -> released expired paid back, settled
    # The same payment once more does not owe once more, even where there is stock.
    at 17s  alice pays k1 as p1                 -> released expired paid back, settled
    at 18s  alice refunds k1                    -> no: order is released, settled
"

a_late_payment_paid_back_is_not_retaken: "
    drop stock=1 hold=10s
    at 0s   alice reserves 1 with k1 by card    -> reserved paying card, available 0 held 1 sold 0        | started reserved sold_out
    at 10s  bob reserves 1 with k1              -> reserved, available 0 held 1 sold 0       | released back_in_stock reserved sold_out
    at 11s  alice pays k1 as p1                 -> released expired owed late_payment                     | refund_due
    at 12s  bob cancels k1                      -> released cancelled, available 1 held 0 sold 0          | released back_in_stock
    at 13s  alice pays k1 as p1                 -> released expired owed late_payment
    at 14s  alice settles k1                    -> released expired paid back                             | refunded
    at 15s  alice pays k1 as p1                 -> released expired paid back
"

a_late_payment_over_the_limit_goes_back: "
    drop stock=9 hold=10s limit=2
    at 0s   alice reserves 2 with k1 by card    -> reserved paying card, available 7 held 2 sold 0        | started reserved
    at 10s  alice reserves 1 with k2            -> reserved, available 8 held 1 sold 0                    | released reserved
    at 11s  alice pays k1 as p1                 -> released expired owed late_payment, owes p1            | refund_due
    at 12s  alice pays k2 as p2                 -> confirmed, available 8 held 0 sold 1, owes p1          | confirmed
"

a_late_payment_after_the_end_goes_back: "
    drop stock=9 hold=10s ends=10s
    at 9s   alice reserves 1 with k1 by card    -> reserved paying card, available 8 held 1 sold 0        | started reserved
    at 10s  drop ticks                          -> done ended, due 19s                                    | ended
    at 19s  alice pays k1 as p1                 -> released expired owed late_payment, available 9 held 0 sold 0, owes p1 | released refund_due
    at 20s  alice settles k1                    -> released expired paid back, settled                    | refunded
"

a_payment_for_a_hold_that_was_given_back_goes_back: "
    drop stock=9
    at 0s  alice reserves 1 with k1 by card     -> reserved paying card, available 8 held 1 sold 0        | started reserved
    at 1s  alice cancels k1                     -> released cancelled paying card, available 9 held 0 sold 0 | released
    at 2s  alice pays k1 as p1                  -> released cancelled owed late_payment, owes p1          | refund_due
    at 3s  alice settles k1                     -> released cancelled paid back                           | refunded
"

a_declined_payment_releases_the_hold: "
    drop stock=1
    at 0s  alice reserves 1 with k1 by card     -> reserved paying card, available 0 held 1 sold 0        | started reserved sold_out
    at 1s  alice fails k1                       -> released payment_failed, available 1 held 0 sold 0     | released back_in_stock
    at 2s  alice fails k1                       -> released payment_failed
    at 3s  alice begins k1 by cash              -> no: order is released
    at 4s  alice reserves 1 with k1 by card     -> released payment_failed again
    at 5s  alice reserves 1 with k2 by cash     -> reserved paying cash, available 0 held 1 sold 0        | reserved sold_out
    # A gateway that changes its mind: no charge without an order.
    at 6s  alice pays k1 as p1                  -> released payment_failed owed late_payment, owes p1     | refund_due
"

a_charge_that_was_never_made_is_closed: "
    drop stock=2 hold=10s
    at 0s   alice reserves 1 with k1 by card    -> reserved paying card, available 1 held 1 sold 0        | started reserved
    # The hold stands: another try may still pay.
    at 1s   alice was not charged for k1        -> reserved, available 1 held 1 sold 0                    | payment_ended
    at 2s   alice was not charged for k1        -> reserved
    at 3s   alice begins k1 by card             -> reserved paying card                                   | payment_started
    at 4s   drop ends                           -> done ended                                             | ended
    at 10s  drop ticks                          -> done ended, available 2 held 0 sold 0, due never       | released
    # Until the gateway has said so, money may still come.
    at 11s  alice was not charged for k1        -> released expired, settled                              | payment_ended
"

a_payment_begins_once_until_its_outcome_is_known: "
    drop stock=2
    at 0s  alice reserves 1 with k1             -> reserved, available 1 held 1 sold 0                    | started reserved
    at 1s  alice begins k1 by card              -> reserved paying card                                   | payment_started
    at 2s  alice begins k1 by card              -> reserved paying card again
    at 3s  alice begins k1 by cash              -> reserved paying card again
    at 4s  alice pays k1 as p1                  -> confirmed, available 1 held 0 sold 1                   | confirmed
    at 5s  alice begins k1 by card              -> no: order is confirmed
    at 6s  alice refunds k1                     -> confirmed owed requested, available 2 held 0 sold 0    | refund_due
    at 7s  alice begins k1 by card              -> no: order is confirmed
    at 8s  alice settles k1                     -> refunded                                               | refunded
    at 9s  alice begins k1 by card              -> no: order is refunded
"

a_confirmed_order_stays_confirmed: "
    drop stock=2
    at 0s  alice reserves 1 with k1             -> reserved, available 1 held 1 sold 0                    | started reserved
    at 1s  alice refunds k1                     -> no: order is reserved
    at 1s  alice settles k1                     -> reserved
    at 2s  alice pays k1 as p1                  -> confirmed, available 1 held 0 sold 1                   | confirmed
    at 3s  alice pays k1 as p1                  -> confirmed
    at 4s  alice cancels k1                     -> no: order is confirmed
    at 4s  alice fails k1                       -> no: order is confirmed
    at 5s  alice settles k1                     -> confirmed
    at 99s drop ticks                           -> done live
    at 99s alice finds k1                       -> confirmed
"

a_refund_is_owed_once: "
    drop stock=1
    at 0s  alice reserves 1 with k1             -> reserved, available 0 held 1 sold 0                    | started reserved sold_out
    at 1s  alice pays k1 as p1                  -> confirmed, available 0 held 0 sold 1                   | confirmed
    at 2s  alice refunds k1                     -> confirmed owed requested, available 1 held 0 sold 0, owes p1 | refund_due back_in_stock
    at 3s  alice refunds k1                     -> confirmed owed requested, owes p1
    at 3s  alice pays k1 as p1                  -> confirmed owed requested, owes p1
    at 3s  alice cancels k1                     -> no: order is confirmed
    at 4s  bob reserves 1 with k1               -> reserved, available 0 held 1 sold 0                    | reserved sold_out
    at 5s  drop ends                            -> done ended                                             | ended
    at 6s  bob pays k1 as p2                    -> confirmed, available 0 held 0 sold 1, owes p1          | confirmed
    at 7s  alice settles k1                     -> refunded, owes, settled                                | refunded
    at 8s  alice settles k1                     -> refunded, settled
    at 8s  alice refunds k1                     -> refunded, settled
    at 8s  alice pays k1 as p1                  -> refunded, settled
    at 8s  alice cancels k1                     -> no: order is refunded, settled
    # After the end units still come back, for the books.
    at 9s  bob refunds k1                       -> confirmed owed requested, available 1 held 0 sold 0, owes p2 | refund_due
"

a_free_drop_confirms_at_once: "
    drop stock=2 price=0 limit=1 low=1
    at 0s  alice reserves 1 with k1             -> confirmed, available 1 held 0 sold 1, due never        | started reserved confirmed stock_low
    # A method that came along is not kept: nobody will be charged.
    at 1s  bob reserves 1 with k1 by card       -> confirmed, available 0 held 0 sold 2                   | reserved confirmed sold_out
    at 2s  alice begins k1 by card              -> no: order is confirmed
    at 3s  alice reserves 1 with k1             -> confirmed again
    at 4s  alice reserves 1 with k2             -> refused limit_exceeded
    # Nothing was paid, so the refund is settled on the spot.
    at 5s  alice refunds k1                     -> refunded, available 1 held 0 sold 1, owes       | refund_due refunded back_in_stock
    at 6s  alice refunds k1                     -> refunded
    at 7s  alice reserves 1 with k3             -> confirmed, available 0 held 0 sold 2                   | reserved confirmed sold_out
    at 8s  drop is cancelled                    -> done cancelled, available 2 held 0 sold 0, owes, settled | cancelled refund_due refunded refund_due refunded
"

a_cancelled_drop_gives_everything_back: "
    drop stock=S:3,M:3
    at 0s  alice reserves 1 of S with k1        -> reserved, S available 2 held 1 sold 0                  | started reserved
    at 1s  bob reserves 2 of M with k1 by card  -> reserved paying card, M available 1 held 2 sold 0      | reserved
    at 2s  carol reserves 1 of M with k1        -> reserved, M available 0 held 3 sold 0                  | reserved
    at 3s  alice pays k1 as p1                  -> confirmed, S available 2 held 0 sold 1                 | confirmed
    at 3s  carol pays k1 as p2                  -> confirmed, M available 0 held 2 sold 1                 | confirmed
    at 4s  alice refunds k1                     -> confirmed owed requested, S available 3 held 0 sold 0  | refund_due
    at 5s  drop is cancelled                    -> done cancelled, M available 3 held 0 sold 0, owes p1 p2, due never | cancelled released refund_due
    at 6s  bob pays k1 as p3                    -> released cancelled owed late_payment, owes p1 p3 p2    | refund_due
    at 7s  alice settles k1                     -> refunded, owes p3 p2                                   | refunded
    at 8s  carol settles k1                     -> refunded, owes p3                                      | refunded
    at 9s  bob settles k1                       -> released cancelled paid back, owes, settled            | refunded
"

}
