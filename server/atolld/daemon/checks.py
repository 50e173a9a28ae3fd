"""What the doctor asks of https. Doctor and https are strangers to each other; they meet here."""

from __future__ import annotations

from atolld.setup.checks.finding import Check, Finding, Patient, ok, warn
from atolld.tls import examine_https, resolves_to_us


async def check_domain(patient: Patient) -> Finding:
    """A made-up name below the domain has to lead to this machine, or get_host() is of no use here."""
    found = await resolves_to_us(patient.config.tls.domain)
    where = ", ".join(found.addresses)
    if found.is_ours:
        return ok("domain", f"{found.host} is {where}")
    return warn("domain", f"{found.host} {f'is {where}' if where else 'does not resolve'}", found.advice)


async def check_https(patient: Patient) -> Finding:
    health = await examine_https(patient.config)
    return ok("https", health.detail) if health.is_well else warn("https", health.detail, health.mend)


HTTPS: tuple[Check, ...] = (check_domain, check_https)
