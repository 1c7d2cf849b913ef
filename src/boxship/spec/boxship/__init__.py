"""Documents of Boxship's own API calls, those below ``/boxship/``; written like Docker's, whose words they reuse."""
