//! A drop's life: start and end, stock, limits, restocks.

stories! {

a_normal_sale: "
    drop stock=10
    at 0s  drop ticks                           -> done live, due never                                   | started
    at 1s  alice reserves 1 with k1             -> reserved, available 9 held 1 sold 0, due 61s           | reserved
    at 2s  alice begins k1 by card              -> reserved paying card                                   | payment_started
    at 3s  alice pays k1 as p1                  -> confirmed, available 9 held 0 sold 1, due never        | confirmed
    at 4s  bob reserves 2 with k1 by card       -> reserved paying card, available 7 held 2 sold 1        | reserved
    at 5s  bob pays k1 as p2                    -> confirmed, available 7 held 0 sold 3                   | confirmed
    at 6s  alice reserves 3 with k2             -> reserved, available 4 held 3 sold 3                    | reserved
    at 7s  alice lists                          -> orders k2 k1
    at 7s  carol lists                          -> no orders
    at 8s  drop ends                            -> done ended, due 66s                                    | ended
    at 9s  alice pays k2 as p3                  -> confirmed, available 4 held 0 sold 6, due never, settled | confirmed
"

it_starts_by_itself: "
    drop stock=10 starts=100s
    at 0s    alice reserves 1 with k1           -> no: not started, due 100s
    # Not even what was asked for is remembered.
    at 1s    alice reserves 2 with k1           -> no: not started, due 100s
    at 99s   drop ticks                         -> done scheduled
    at 100s  bob reserves 1 with k1             -> reserved, available 9 held 1 sold 0                    | started reserved
    # The key that was pressed too early gets the order.
    at 101s  alice reserves 1 with k1           -> reserved, available 8 held 2 sold 0                    | reserved
    at 102s  alice reserves 1 with k1           -> reserved again
"

it_is_started_early_by_hand: "
    drop stock=10 starts=100s
    at 10s   drop starts                        -> done live                                              | started
    at 10s   drop starts                        -> already live
    at 11s   alice reserves 1 with k1           -> reserved, available 9 held 1 sold 0                    | reserved
    at 12s   alice pays k1 as p1                -> confirmed, available 9 held 0 sold 1                   | confirmed
    at 100s  drop ticks                         -> done live
"

it_is_moved_before_it_starts: "
    drop stock=10 starts=100s
    at 1s    drop moves to 50s until 60s        -> done scheduled, due 50s                                | rescheduled
    at 2s    drop moves to 50s until 60s        -> already scheduled
    at 3s    drop moves to 40s until 40s        -> no: invalid times
    at 50s   alice reserves 1 with k1           -> reserved, available 9 held 1 sold 0                    | started reserved
    at 51s   drop moves to 70s                  -> no: drop is live
    # Its end may still move.
    at 52s   drop moves to 50s until 80s        -> done live, due 80s                                     | rescheduled
    at 53s   drop moves to 50s until 53s        -> no: invalid times
    at 80s   drop ticks                         -> done ended, due 110s                                   | ended
    at 81s   drop moves to 50s until 99s        -> no: drop is ended
"

what_is_not_named_of_its_times_stays: "
    drop stock=10 starts=100s
    at 1s    drop moves to 50s until 60s        -> done scheduled, due 50s                                | rescheduled
    at 2s    drop moves to 55s                  -> done scheduled, due 55s                                | rescheduled
    at 3s    drop moves to 60s                  -> no: invalid times
    at 55s   drop ends at 90s                   -> done live, due 90s                                     | started rescheduled
    at 56s   drop has no end                    -> done live, due never                                   | rescheduled
    at 57s   drop has no end                    -> already live
"

it_is_moved_to_now: "
    drop stock=10 starts=100s
    at 5s   drop moves to 5s                    -> done live, due never                                   | rescheduled started
"

what_is_done_by_hand_is_noted_if_it_changes_something: "
    drop stock=2 starts=100s
    at 1s   admin drop moves to 90s             -> done scheduled, due 90s                                | rescheduled by_hand
    at 1s   admin drop moves to 90s             -> already scheduled
    at 2s   admin drop starts                   -> done live, due never                                   | started by_hand
    at 2s   admin drop starts                   -> already live
    at 3s   admin drop restocks 1               -> done live, available 3 held 0 sold 0                   | restocked by_hand
    at 4s   alice reserves 1 with k1            -> reserved, available 2 held 1 sold 0                    | reserved
    at 4s   alice pays k1 as p1                 -> confirmed, available 2 held 0 sold 1                   | confirmed
    at 5s   admin alice refunds k1              -> confirmed owed requested, available 3 held 0 sold 0, owes p1 | refund_due by_hand
    at 5s   admin alice refunds k1              -> confirmed owed requested, owes p1
    # A purchase is nobody's act by hand, whoever asks.
    at 6s   admin bob reserves 1 with k1        -> reserved, available 2 held 1 sold 0                    | reserved
    at 7s   admin drop ends                     -> done ended                                             | ended by_hand
    at 7s   admin drop is cancelled             -> no: drop is ended
"

it_starts_and_ends_while_nobody_looks: "
    drop stock=10 starts=10s ends=20s
    at 30s  alice reserves 1 with k1            -> refused drop_ended, settled, due never                 | started ended
"

it_ends_by_itself_and_a_running_hold_is_still_paid: "
    drop stock=2 ends=30s
    at 0s   drop ticks                          -> done live, due 30s                                     | started
    at 10s  alice reserves 1 with k1            -> reserved, available 1 held 1 sold 0                    | reserved
    at 29s  bob reserves 1 with k1              -> reserved, available 0 held 2 sold 0                    | reserved sold_out
    at 30s  carol reserves 1 with k1            -> refused drop_ended, due 70s                            | ended
    at 31s  alice begins k1 by card             -> reserved paying card                                   | payment_started
    at 69s  alice pays k1 as p1                 -> confirmed, available 0 held 1 sold 1                   | confirmed
    at 70s  drop ticks                          -> done ended, due 89s
    # A unit that comes back after the end is not for sale any more: nobody is told.
    at 89s  drop ticks                          -> done ended, available 1 held 0 sold 1, due never, settled | released
    at 90s  dave reserves 1 with k1             -> refused drop_ended, settled
"

sold_out_and_live_again_when_a_hold_expires: "
    drop stock=1 hold=10s
    at 0s   alice reserves 1 with k1            -> reserved, available 0 held 1 sold 0, due 10s           | started reserved sold_out
    at 1s   bob reserves 1 with k1              -> refused sold_out
    at 9s   bob reserves 1 with k2              -> refused sold_out
    # Nobody ticked: the command itself finds that time has passed.
    at 10s  bob reserves 1 with k3              -> reserved, available 0 held 1 sold 0      | released back_in_stock reserved sold_out
    at 11s  bob pays k3 as p1                   -> confirmed, available 0 held 0 sold 1, due never        | confirmed
"

sold_out_and_live_again_when_a_hold_is_cancelled: "
    drop stock=2
    at 0s  alice reserves 2 with k1             -> reserved, available 0 held 2 sold 0                    | started reserved sold_out
    at 1s  alice cancels k1                     -> released cancelled, available 2 held 0 sold 0          | released back_in_stock
    at 2s  alice cancels k1                     -> released cancelled
    at 3s  bob reserves 2 with k1               -> reserved, available 0 held 2 sold 0                    | reserved sold_out
    at 4s  bob pays k1 as p1                    -> confirmed, available 0 held 0 sold 2                   | confirmed
    at 5s  bob refunds k1                       -> confirmed owed requested, available 2 held 0 sold 0    | refund_due back_in_stock
"

a_quantity_takes_all_or_nothing: "
    drop stock=3
    at 0s  alice reserves 2 with k1             -> reserved, available 1 held 2 sold 0                    | started reserved
    at 0s  bob reserves 2 with k1               -> refused not_enough_stock 1
    at 0s  bob reserves 1 with k2               -> reserved, available 0 held 3 sold 0                    | reserved sold_out
"

odd_quantities_are_no_decisions: "
    drop stock=2000
    at 0s  alice reserves 0 with k1             -> no: InvalidQuantity                                    | started
    at 0s  alice reserves 1001 with k1          -> no: InvalidQuantity
    at 0s  alice reserves 4294967295 with k1    -> no: InvalidQuantity
    # The key is as good as new.
    at 0s  alice reserves 1000 with k1          -> reserved, available 1000 held 1000 sold 0              | reserved
    at 0s  drop restocks 0                      -> no: InvalidQuantity
    at 0s  drop restocks 9998001                -> no: InvalidQuantity
    at 0s  drop restocks 4294967295             -> no: InvalidQuantity
    at 0s  drop restocks 9998000                -> done live, available 9999000 held 1000 sold 0          | restocked
    at 0s  drop restocks 1                      -> no: InvalidQuantity
"

a_limit_counts_all_orders_of_a_buyer: "
    drop stock=10 limit=3 hold=10s
    at 0s   alice reserves 2 with k1            -> reserved, available 8 held 2 sold 0                    | started reserved
    at 1s   alice reserves 2 with k2            -> refused limit_exceeded
    at 1s   bob reserves 4 with k1              -> refused limit_exceeded
    at 2s   alice reserves 1 with k3            -> reserved, available 7 held 3 sold 0                    | reserved
    at 3s   alice pays k1 as p1                 -> confirmed, available 7 held 1 sold 2                   | confirmed
    at 4s   alice reserves 1 with k4            -> refused limit_exceeded
    # What comes back may be ordered again: a cancelled hold,
    at 5s   alice cancels k3                    -> released cancelled, available 8 held 0 sold 2          | released
    at 6s   alice reserves 1 with k5            -> reserved, available 7 held 1 sold 2                    | reserved
    # an expired one,
    at 16s  alice reserves 1 with k6            -> reserved, available 7 held 1 sold 2                    | released reserved
    # and a refunded order, before the gateway has answered.
    at 17s  alice refunds k1                    -> confirmed owed requested, available 9 held 1 sold 0    | refund_due
    at 18s  alice reserves 2 with k7            -> reserved, available 7 held 3 sold 0                    | reserved
    at 19s  alice settles k1                    -> refunded                                               | refunded
    at 20s  alice reserves 1 with k8            -> refused limit_exceeded
"

low_stock_is_told_once_for_each_crossing: "
    drop stock=5 low=2
    at 0s  alice reserves 2 with k1             -> reserved, available 3 held 2 sold 0                    | started reserved
    at 1s  alice reserves 1 with k2             -> reserved, available 2 held 3 sold 0                    | reserved stock_low
    at 2s  alice reserves 1 with k3             -> reserved, available 1 held 4 sold 0                    | reserved
    # At the threshold again is not above it.
    at 3s  alice cancels k3                     -> released cancelled, available 2 held 3 sold 0          | released
    at 4s  alice reserves 1 with k4             -> reserved, available 1 held 4 sold 0                    | reserved
    at 5s  drop restocks 2                      -> done live, available 3 held 4 sold 0                   | restocked
    at 6s  alice reserves 3 with k5             -> reserved, available 0 held 7 sold 0                    | reserved stock_low sold_out
    at 7s  alice pays k1 as p1                  -> confirmed, available 0 held 5 sold 2                   | confirmed
    at 8s  alice refunds k1                     -> confirmed owed requested, available 2 held 5 sold 0    | refund_due back_in_stock
    at 9s  alice cancels k2                     -> released cancelled, available 3 held 4 sold 0          | released
    at 9s  bob reserves 1 with k1               -> reserved, available 2 held 5 sold 0                    | reserved stock_low
"

variants_sell_out_one_by_one: "
    drop stock=S:1,M:2,L:1 low=1 limit=3
    at 0s  alice reserves 1 of S with k1        -> reserved, S available 0 held 1 sold 0                  | started reserved stock_low
    at 1s  bob reserves 1 of S with k1          -> refused sold_out
    at 2s  bob reserves 1 of M with k2          -> reserved, M available 1 held 1 sold 0                  | reserved stock_low
    at 3s  bob reserves 1 of M with k3          -> reserved, M available 0 held 2 sold 0                  | reserved
    at 4s  carol reserves 1 of L with k1        -> reserved, L available 0 held 1 sold 0                  | reserved stock_low sold_out
    at 5s  dave reserves 1 of L with k1         -> refused sold_out
    at 6s  bob cancels k2                       -> released cancelled, M available 1 held 1 sold 0        | released back_in_stock
    at 7s  drop restocks 2 of S                 -> done live, S available 2 held 1 sold 0                 | restocked
    at 8s  drop restocks 1 of XL                -> no: UnknownVariant
    at 8s  drop restocks 1                      -> no: UnknownVariant
    # The limit is one for all variants.
    at 9s  alice reserves 1 of M with k2        -> reserved, M available 0 held 2 sold 0                  | reserved
    at 9s  alice reserves 2 of S with k3        -> refused limit_exceeded
    at 9s  alice reserves 1 of S with k4        -> reserved, S available 1 held 2 sold 0                  | reserved stock_low
"

a_variant_has_to_be_known: "
    drop stock=S:1,M:1
    at 0s  alice reserves 1 of XL with k1       -> refused unknown_variant                                | started
    at 0s  alice reserves 1 with k2             -> refused unknown_variant
    at 1s  alice reserves 1 with k2             -> refused unknown_variant
    at 1s  alice reserves 1 of M with k2        -> reserved, M available 0 held 1 sold 0                  | reserved
"

the_only_variant_may_be_named_or_not: "
    drop stock=2
    at 0s  alice reserves 1 of only with k1     -> reserved, available 1 held 1 sold 0                    | started reserved
    at 0s  drop restocks 1 of only              -> done live, available 2 held 1 sold 0                   | restocked
    at 0s  drop restocks 1                      -> done live, available 3 held 1 sold 0                   | restocked
"

a_restock_brings_a_sold_out_drop_back: "
    drop stock=1 starts=10s
    at 0s   drop restocks 1                     -> done scheduled, available 2 held 0 sold 0              | restocked
    at 10s  alice reserves 2 with k1            -> reserved, available 0 held 2 sold 0                    | started reserved sold_out
    at 11s  drop restocks 3                     -> done live, available 3 held 2 sold 0                   | restocked back_in_stock
    at 12s  bob reserves 3 with k1              -> reserved, available 0 held 5 sold 0                    | reserved sold_out
    at 13s  drop ends                           -> done ended                                             | ended
    at 14s  drop restocks 1                     -> no: drop is ended
"

a_drop_of_nothing_waits_for_its_first_restock: "
    drop stock=0 low=3
    at 0s  alice reserves 1 with k1             -> refused sold_out                                       | started
    at 1s  drop restocks 1                      -> done live, available 1 held 0 sold 0                   | restocked back_in_stock
    at 2s  alice reserves 1 with k2             -> reserved, available 0 held 1 sold 0                    | reserved stock_low sold_out
"

start_end_and_cancel_in_every_state: "
    drop stock=1 starts=10s
    at 0s   drop ends                           -> no: drop is scheduled
    at 1s   drop starts                         -> done live                                              | started
    at 2s   drop starts                         -> already live
    at 3s   alice reserves 1 with k1            -> reserved, available 0 held 1 sold 0                    | reserved sold_out
    at 4s   drop starts                         -> already sold_out
    at 5s   drop ends                           -> done ended                                             | ended
    at 6s   drop ends                           -> already ended
    at 7s   drop starts                         -> no: drop is ended
    at 8s   drop is cancelled                   -> no: drop is ended
    at 9s   alice pays k1 as p1                 -> confirmed, available 0 held 0 sold 1, settled          | confirmed
"

a_drop_is_cancelled_before_it_starts: "
    drop stock=1 starts=10s
    at 0s   drop is cancelled                   -> done cancelled, settled, due never                     | cancelled
    at 1s   drop is cancelled                   -> already cancelled, settled
    at 2s   drop starts                         -> no: drop is cancelled, settled
    at 3s   drop ends                           -> no: drop is cancelled, settled
    at 4s   drop restocks 1                     -> no: drop is cancelled, settled
    at 20s  alice reserves 1 with k1            -> refused drop_cancelled, settled
"

a_clock_that_is_set_back_makes_no_hold_longer_and_the_end_later: "
    drop stock=3 hold=10s ends=60s
    at 20s  alice reserves 1 with k1            -> reserved, available 2 held 1 sold 0, due 30s           | started reserved
    clock steps back 15s                        -> stepped
    at 21s  bob reserves 1 with k1              -> reserved, available 1 held 2 sold 0, due 30s           | reserved
    at 29s  alice begins k1 by card             -> reserved paying card, due 30s                          | payment_started
    at 30s  alice pays k1 as p1                 -> confirmed, available 1 held 1 sold 1, due 31s          | released retaken
    at 31s  bob begins k1 by card               -> no: order is released, available 2 held 0 sold 1, due 75s | released
    at 74s  drop ticks                          -> done live
    at 75s  drop ticks                          -> done ended, settled, due never                         | ended
    clock steps back 60s                        -> stepped, settled
    at 76s  carol reserves 1 with k1            -> refused drop_ended, settled
"

a_clock_that_is_set_ahead_ends_no_hold_early_and_the_drop_at_once: "
    drop stock=2 hold=10s ends=60s
    at 0s   alice reserves 1 with k1            -> reserved, available 1 held 1 sold 0, due 10s           | started reserved
    clock steps ahead 30s                       -> stepped, due 10s
    at 1s   bob reserves 1 with k1              -> reserved, available 0 held 2 sold 0                    | reserved sold_out
    clock steps ahead 30s                       -> stepped, due now
    at 9s   alice finds k1                      -> reserved, due 10s                                      | ended
    at 10s  alice finds k1                      -> released expired, available 1 held 1 sold 0, due 11s   | released
    at 10s  bob pays k1 as p1                   -> confirmed, available 1 held 0 sold 1, due never, settled | confirmed
"

a_start_follows_the_clock_as_it_was_corrected: "
    drop stock=2 starts=13s
    at 10s  drop ticks                          -> done scheduled, due 13s
    clock steps back 10s                        -> stepped, due 23s
    at 22s  alice reserves 1 with k1            -> no: not started
    at 23s  alice reserves 1 with k1            -> reserved, available 1 held 1 sold 0                    | started reserved
"

a_hold_ends_at_its_millisecond: "
    drop stock=1 hold=1s
    at 0ms     alice reserves 1 with k1         -> reserved, available 0 held 1 sold 0, due 1000ms        | started reserved sold_out
    at 999ms   bob reserves 1 with k1           -> refused sold_out
    at 999ms   alice begins k1 by card          -> reserved paying card                                   | payment_started
    at 1000ms  alice begins k1 by cash          -> no: order is released, available 1 held 0 sold 0       | released back_in_stock
"

}
