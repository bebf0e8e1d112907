"""Who may act for an account: the rule of "who may delete", for the query of any route."""

import peewee
from peewee import fn

from recoup.database.models import AccountOrganization


def may_act_for(
    account: peewee.Node, caller: peewee.Node, admin_organization: peewee.Node
) -> peewee.Expression:
    """Whether the account `caller` may act for `account`, as an expression.

    It may act for itself and for accounts that share an organization with it. A member of
    `admin_organization` may act for everybody. It is one subquery, not two, because Postgres plans
    that faster.
    """
    mine, theirs = AccountOrganization.alias("mine"), AccountOrganization.alias("theirs")
    shared = theirs.select(theirs.id).where(
        theirs.account_id == account, theirs.organization_id == mine.organization_id
    )
    membership = mine.select(mine.id).where(
        mine.account_id == caller,
        (mine.organization_id == admin_organization) | fn.EXISTS(shared),
    )
    return (account == caller) | fn.EXISTS(membership)
