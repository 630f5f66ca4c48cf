"""Which messages are coded and which are sent as floats, by the cost model."""

from snap_jax.policy.choose import LinkChoice as LinkChoice
from snap_jax.policy.choose import choices_section as choices_section
from snap_jax.policy.choose import choices_table as choices_table
from snap_jax.policy.choose import choose as choose
