//! Bodies of requests and answers about creators and follows.

use crate::domain::{CreatorId, Timestamp, UserId};
use crate::http::openapi::schema;
use crate::service::Creator;
use crate::service::creators::{FollowInput, ProfileChangeInput, ProfileInput};
use crate::service::input::Field;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A creator's profile to create for the caller's account.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = NewCreator, examples(json!({"handle": "ada_lovelace", "display_name": "Ada", "bio": "Machines that weave algebra"})))]
pub struct NewCreatorBody {
    #[schema(required = true, schema_with = schema::handle)]
    handle: Field<String>,
    #[schema(required = true, schema_with = schema::name)]
    display_name: Field<String>,
    #[schema(schema_with = schema::text_or_null)]
    bio: Field<String>,
}

impl From<NewCreatorBody> for ProfileInput {
    fn from(NewCreatorBody { handle, display_name, bio }: NewCreatorBody) -> Self {
        Self { handle, display_name, bio }
    }
}

/// A change of a profile; omitted fields and `null` leave it as it is. The handle cannot change.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = CreatorChange, examples(json!({"display_name": "Ada Lovelace", "bio": "Machines that weave algebra"})))]
pub struct CreatorChangeBody {
    #[schema(schema_with = schema::name_or_null)]
    display_name: Field<String>,
    #[schema(schema_with = schema::text_or_null)]
    bio: Field<String>,
}

impl From<CreatorChangeBody> for ProfileChangeInput {
    fn from(CreatorChangeBody { display_name, bio }: CreatorChangeBody) -> Self {
        Self { display_name, bio }
    }
}

/// The creator to follow.
#[derive(Deserialize, Default, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = Follow, examples(json!({"creator_id": "01890a5d-ac96-774b-bcce-b302099a805a"})))]
pub struct FollowBody {
    #[schema(required = true, schema_with = schema::uuid)]
    creator_id: Field<CreatorId>,
}

impl From<FollowBody> for FollowInput {
    fn from(FollowBody { creator_id }: FollowBody) -> Self {
        Self { creator_id }
    }
}

/// A creator's public profile.
#[derive(Serialize, ToSchema)]
#[schema(as = Creator)]
pub struct CreatorBody<'a> {
    id: CreatorId,
    #[schema(example = "ada_lovelace")]
    handle: &'a str,
    display_name: &'a str,
    bio: &'a str,
    #[schema(minimum = 0)]
    follower_count: i64,
    created_at: Timestamp,
}

impl<'a> From<&'a Creator> for CreatorBody<'a> {
    fn from(creator: &'a Creator) -> Self {
        Self {
            id: creator.id,
            handle: &creator.handle,
            display_name: &creator.display_name,
            bio: &creator.bio,
            follower_count: creator.follower_count,
            created_at: creator.created_at,
        }
    }
}

/// Whether the caller follows a creator.
#[derive(Serialize, ToSchema)]
#[schema(as = Following)]
pub struct FollowingBody {
    /// The creator's id, which is also the owner's account id.
    pub creator_id: CreatorId,
    /// `true` if the caller follows the creator.
    pub following: bool,
}

/// One follower of a creator.
#[derive(Serialize, ToSchema)]
#[schema(as = Follower)]
pub struct FollowerBody {
    /// The follower's account id.
    pub user_id: UserId,
}

/// One creator that a user follows.
#[derive(Serialize, ToSchema)]
#[schema(as = Followed)]
pub struct FollowedBody {
    /// The creator's id, which is also the owner's account id.
    pub creator_id: CreatorId,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::extract::json::pointers;
    use serde_json::json;

    #[test]
    fn profiles_are_checked() {
        let profile = |json| pointers::<NewCreatorBody, ProfileInput>(&json);
        let none: [&str; 0] = [];
        assert_eq!(profile(json!({"handle": "ada_99", "display_name": "Ada"})), none);
        assert_eq!(profile(json!({"handle": "ada", "display_name": "Ada", "bio": ""})), none);
        assert_eq!(profile(json!({"handle": "ada", "display_name": "Ada", "bio": "b".repeat(4_001)})), ["/bio"]);
        for bad in ["", "ab", "Ada", "ädä", "a b c", "a-b-c", &"a".repeat(31), "ada\n"] {
            assert_eq!(profile(json!({"handle": bad, "display_name": "Ada"})), ["/handle"], "{bad:?}");
        }
    }

    #[test]
    fn a_follow_names_a_creator() {
        let follow = |json| pointers::<FollowBody, FollowInput>(&json);
        assert_eq!(follow(json!({})), ["/creator_id"]);
        assert_eq!(follow(json!({"creator_id": "ada"})), ["/creator_id"]);
        assert_eq!(follow(json!({"creator_id": CreatorId(uuid::Uuid::now_v7())})), [] as [&str; 0]);
    }
}
