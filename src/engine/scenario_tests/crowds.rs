//! More orders than one sweep settles (`SWEEP_ORDERS_MAX`, 512).

stories! {

a_mass_expiry_is_swept_in_pieces: "
    drop stock=1200 hold=10s
    at 0s   crowd 1200 reserves 1 with k1       -> all reserved, available 0 held 1200 sold 0             | started reserved x1200 sold_out
    at 10s  drop ticks                          -> done live, available 512 held 688 sold 0, due now      | released back_in_stock released x511
    # Who asks in between neither waits nor gets less than is there.
    at 10s  alice reserves 600 with k1          -> reserved, available 424 held 776 sold 0, due now       | released x512 reserved
    at 10s  drop ticks                          -> done live, available 600 held 600 sold 0, due 20s      | released x176
    at 20s  drop ends                           -> done ended, available 1200 held 0 sold 0, due never, settled | released ended
"

a_hold_that_the_sweep_has_not_reached_is_over_all_the_same: "
    drop stock=1200 hold=10s ends=10s
    at 0s   alice reserves 100 with k1 by card  -> reserved paying card, available 1100 held 100 sold 0   | started reserved
    at 0s   crowd 1000 reserves 1 with k1       -> all reserved, available 100 held 1100 sold 0           | reserved x1000
    at 0s   bob reserves 1 with k1 by card      -> reserved paying card, available 99 held 1101 sold 0    | reserved
    at 0s   carol reserves 1 with k1            -> reserved, available 98 held 1102 sold 0                | reserved
    # The first and the last of the queue get the same answer.
    at 10s  bob pays k1 as p1                   -> released expired owed late_payment, available 710 held 490 sold 0 | ended released x513 refund_due
    at 10s  carol begins k1 by card             -> no: order is released, available 1200 held 0 sold 0    | released x490
    at 10s  alice pays k1 as p2                 -> released expired owed late_payment, owes p2 p1         | refund_due
"

a_payment_does_not_begin_on_a_hold_that_is_over: "
    drop stock=1200 hold=10s
    at 0s   crowd 1000 reserves 1 with k1       -> all reserved, available 200 held 1000 sold 0           | started reserved x1000
    at 0s   bob reserves 1 with k1              -> reserved, available 199 held 1001 sold 0               | reserved
    at 0s   carol reserves 1 with k1 by card    -> reserved paying card, available 198 held 1002 sold 0   | reserved
    at 10s  bob begins k1 by card               -> no: order is released, available 711 held 489 sold 0   | released x513
    at 10s  carol fails k1                      -> released expired, available 1200 held 0 sold 0 | released x489 payment_ended
"

a_payment_does_not_begin_in_a_cancelled_drop: "
    drop stock=1200
    at 0s  crowd 1100 reserves 1 with k1        -> all reserved, available 100 held 1100 sold 0           | started reserved x1100
    at 0s  bob reserves 1 with k1               -> reserved, available 99 held 1101 sold 0                | reserved
    at 0s  carol reserves 1 with k1 by card     -> reserved paying card, available 98 held 1102 sold 0    | reserved
    at 1s  drop is cancelled                    -> done cancelled, available 610 held 590 sold 0, due now | cancelled released x512
    at 2s  bob begins k1 by card                -> no: order is released, available 1123 held 77 sold 0, due now | released x513
    at 3s  carol pays k1 as p1                  -> released cancelled owed late_payment, available 1200 held 0 sold 0, owes p1, due never | released x77 refund_due
    at 4s  carol settles k1                     -> released cancelled paid back, settled                  | refunded
"

a_payment_lands_before_the_sweep_of_a_cancelled_drop: "
    drop stock=1200
    at 0s  crowd 1100 reserves 1 with k1        -> all reserved, available 100 held 1100 sold 0           | started reserved x1100
    at 0s  bob reserves 1 with k1 by card       -> reserved paying card, available 99 held 1101 sold 0    | reserved
    at 1s  drop is cancelled                    -> done cancelled, available 611 held 589 sold 0, due now | cancelled released x512
    at 1s  bob pays k1 as p1                    -> released cancelled owed late_payment, available 1124 held 76 sold 0, owes p1, due now | released x513 refund_due
    at 1s  drop ticks                           -> done cancelled, available 1200 held 0 sold 0, due never | released x76
    at 2s  bob settles k1                       -> released cancelled paid back, settled                  | refunded
"

a_big_drop_is_cancelled_tick_by_tick: "
    drop stock=3000
    at 0s  crowd 1300 reserves 1 with k1        -> all reserved, available 1700 held 1300 sold 0          | started reserved x1300
    at 1s  crowd 700 pays k1 as p               -> all confirmed, available 1700 held 600 sold 700        | confirmed x700
    at 2s  drop is cancelled                    -> done cancelled, available 2212 held 88 sold 700, due now | cancelled released x512
    at 3s  drop ticks                           -> done cancelled, available 2724 held 0 sold 276, due now | released x88 refund_due x424
    at 4s  drop ticks                           -> done cancelled, available 3000 held 0 sold 0, due never | refund_due x276
    at 5s  drop ticks                           -> done cancelled, due never
    at 6s  crowd 699 settles k1                 -> all refunded                                           | refunded x699
    at 7s  c699 settles k1                      -> refunded, settled                                      | refunded
"

}
