"""What tests share: a scripted language model, fakes of our own seams."""
