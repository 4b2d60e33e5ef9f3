//! Holding units again and again without ever paying.

stories! {

who_lets_a_hold_run_out_waits_twice_as_long_each_time: "
    drop stock=9 hold=10s cool=30s
    at 0s    alice reserves 1 with k1           -> reserved, available 8 held 1 sold 0                    | started reserved
    at 10s   alice reserves 1 with k2           -> no: 30s to cool down, available 9 held 0 sold 0        | released
    # Nobody else does.
    at 11s   bob reserves 1 with k1             -> reserved, available 8 held 1 sold 0                    | reserved
    at 12s   bob pays k1 as p1                  -> confirmed, available 8 held 0 sold 1                   | confirmed
    at 39s   alice reserves 1 with k2           -> no: 1s to cool down
    # The key that was told to wait gets the order.
    at 40s   alice reserves 1 with k2           -> reserved, available 7 held 1 sold 1                    | reserved
    at 50s   alice reserves 1 with k3           -> no: 60s to cool down, available 8 held 0 sold 1        | released
    at 110s  alice reserves 1 with k3           -> reserved, available 7 held 1 sold 1                    | reserved
    at 119s  alice pays k3 as p2                -> confirmed, available 7 held 0 sold 2                   | confirmed
    # Whoever pays is as good as new.
    at 120s  alice reserves 1 with k4           -> reserved, available 6 held 1 sold 2                    | reserved
    at 130s  alice reserves 1 with k5           -> no: 30s to cool down, available 7 held 0 sold 2        | released
"

holds_that_run_out_together_count_once: "
    drop stock=9 hold=10s cool=30s
    at 0s   alice reserves 1 with k1            -> reserved, available 8 held 1 sold 0                    | started reserved
    at 1s   alice reserves 1 with k2            -> reserved, available 7 held 2 sold 0                    | reserved
    at 2s   alice reserves 1 with k3            -> reserved, available 6 held 3 sold 0                    | reserved
    at 12s  alice reserves 1 with k4            -> no: 30s to cool down, available 9 held 0 sold 0        | released x3
"

giving_back_what_was_held_for_long_is_no_way_around: "
    drop stock=9 hold=10s cool=30s
    at 0s   alice reserves 1 with k1            -> reserved, available 8 held 1 sold 0                    | started reserved
    at 4s   alice cancels k1                    -> released cancelled, available 9 held 0 sold 0          | released
    at 4s   alice reserves 1 with k2            -> reserved, available 8 held 1 sold 0                    | reserved
    at 9s   alice cancels k2                    -> released cancelled, available 9 held 0 sold 0          | released
    at 10s  alice reserves 1 with k3            -> no: 29s to cool down
    # A card that is declined is not held against anybody.
    at 10s  bob reserves 1 with k1 by card      -> reserved paying card, available 8 held 1 sold 0        | reserved
    at 19s  bob fails k1                        -> released payment_failed, available 9 held 0 sold 0     | released
    at 19s  bob reserves 1 with k2              -> reserved, available 8 held 1 sold 0                    | reserved
"

a_buyer_has_so_many_unpaid_holds: "
    drop stock=9 hold=60s holds=2
    at 0s   alice reserves 1 with k1            -> reserved, available 8 held 1 sold 0                    | started reserved
    at 1s   alice reserves 1 with k2            -> reserved, available 7 held 2 sold 0                    | reserved
    at 2s   alice reserves 1 with k3            -> no: TooManyHolds
    at 3s   alice pays k1 as p1                 -> confirmed, available 7 held 1 sold 1                   | confirmed
    at 4s   alice reserves 1 with k3            -> reserved, available 6 held 2 sold 1                    | reserved
    at 5s   alice reserves 1 with k4            -> no: TooManyHolds
    at 6s   alice cancels k2                    -> released cancelled, available 7 held 1 sold 1          | released
    at 7s   alice reserves 1 with k4            -> reserved, available 6 held 2 sold 1                    | reserved
    at 64s  alice reserves 1 with k5            -> reserved, available 6 held 2 sold 1                    | released reserved
"

what_is_free_is_never_held: "
    drop stock=9 price=0 holds=1 network=1
    at 0s  alice reserves 1 with k1 from 7      -> confirmed, available 8 held 0 sold 1                   | started reserved confirmed
    at 0s  alice reserves 1 with k2 from 7      -> confirmed, available 7 held 0 sold 2                   | reserved confirmed
"

}

/// A restart forgets the networks of holds, so these stories run without one.
#[test]
fn a_network_has_so_many_unpaid_holds() {
    crate::engine::scenario_tests::stage::play_once(
        "
    drop stock=9 hold=10s network=2
    at 0s   alice reserves 1 with k1 from 7     -> reserved, available 8 held 1 sold 0                    | started reserved
    at 0s   bob reserves 1 with k1 from 7       -> reserved, available 7 held 2 sold 0                    | reserved
    at 1s   carol reserves 1 with k1 from 7     -> no: TooManyHoldsFromNetwork
    at 1s   carol reserves 1 with k1 from 8     -> reserved, available 6 held 3 sold 0                    | reserved
    at 2s   bob pays k1 as p1                   -> confirmed, available 6 held 2 sold 1                   | confirmed
    at 3s   dave reserves 1 with k1 from 7      -> reserved, available 5 held 3 sold 1                    | reserved
    at 3s   erin reserves 1 with k1 from 7      -> no: TooManyHoldsFromNetwork
    at 4s   dave cancels k1                     -> released cancelled, available 6 held 2 sold 1          | released
    at 4s   erin reserves 1 with k1 from 7      -> reserved, available 5 held 3 sold 1                    | reserved
    at 4s   frank reserves 1 with k1            -> reserved, available 4 held 4 sold 1                    | reserved
    at 10s  gina reserves 1 with k1 from 7      -> reserved, available 4 held 4 sold 1                    | released reserved
    at 10s  hugo reserves 1 with k1 from 7      -> no: TooManyHoldsFromNetwork
    at 14s  drop ticks                          -> done live, available 7 held 1 sold 1                   | released x3
",
    );
}
