"""Domains below which anybody can have a name, such as `vercel.app`.

Browsers know all of them from the public suffix list (publicsuffix.org). Two names below one are
two sites, and a cookie whose Domain is one is dropped (RFC 6265bis, 5.6). This list has only those
that operators most often meet.
"""

from __future__ import annotations

_KNOWN = """
    vercel.app vercel.dev now.sh netlify.app herokuapp.com github.io gitlab.io bitbucket.io
    codeberg.page pages.dev workers.dev trycloudflare.com fly.dev onrender.com
    ondigitalocean.app azurewebsites.net azurestaticapps.net cloudapp.net cloudfront.net
    amplifyapp.com elasticbeanstalk.com s3.amazonaws.com web.app firebaseapp.com a.run.app
    appspot.com deno.dev replit.app replit.dev repl.co glitch.me hf.space streamlit.app
    pythonanywhere.com supabase.co lovable.app csb.app convex.site framer.app cleverapps.io
    zeabur.app ngrok.io ngrok.app ngrok.dev ngrok-free.app ngrok-free.dev ts.net duckdns.org
    dyndns.org no-ip.org ddns.net co.uk org.uk ac.uk gov.uk com.au org.au co.nz co.za com.br
    com.cn com.hk com.sg com.tw co.in co.jp or.jp co.kr com.mx com.ar com.tr com.pl com.ua co.il
    eu.org
"""
SUFFIXES = frozenset(_KNOWN.split())
_LABELS = (3, 2)  # of the suffixes, longest first; any other is taken to have one


def problem_of(domain: str) -> str:
    """Return what is wrong with a cookie domain that is a public suffix, or nothing."""
    if domain not in SUFFIXES:
        return ""
    return (
        f"AUTHAPI_COOKIE_DOMAIN {domain} is a public suffix, so browsers drop the cookie and "
        "nobody stays logged in: leave it unset, or use a domain of your own."
    )


def registrable(name: str) -> str:
    """Return the part of a host name that names its site: the public suffix and one label more."""
    labels = name.split(".")
    length = next((each for each in _LABELS if ".".join(labels[-each:]) in SUFFIXES), 1)
    return ".".join(labels[-length - 1 :])
