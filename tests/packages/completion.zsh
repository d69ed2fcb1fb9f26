# completion.zsh FOLDER: in a terminal, `towline exten<TAB>` becomes `towline extend` at the first tab.
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "fpath=(${(q)1} \$fpath); autoload -U compinit; compinit -u -D; bindkey '^I' complete-word; print rea''dy"
zpty -r shell shown '*ready*' || exit 1 # waits until it is shown; the caller has a time-out
zpty -w -n shell $'towline exten\t'
zpty -r shell shown '*towline extend*'
