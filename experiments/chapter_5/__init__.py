"""Chapter 5: recurrent nets and the LSTM."""
