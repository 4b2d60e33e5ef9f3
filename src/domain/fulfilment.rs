//! The way of sold goods to their buyer.

named!(
    /// How far a sold order is on its way to the buyer.
    FulfilmentStatus {
        /// Sold, and nothing else.
        Unfulfilled = "unfulfilled",
        /// In its parcel.
        Packed = "packed",
        /// With a carrier.
        Shipped = "shipped",
        /// With the buyer.
        Delivered = "delivered",
    }
);

impl FulfilmentStatus {
    /// Whether the goods have left the seller.
    #[must_use]
    pub fn is_shipped(self) -> bool {
        self >= Self::Shipped
    }
}
